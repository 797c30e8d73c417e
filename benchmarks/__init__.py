"""What is measured beside peers, each one command: `make bench B=name`."""
