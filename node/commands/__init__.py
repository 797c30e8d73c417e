"""The command line's groups of commands, a file each; `node.cli` puts them together."""
