"""What happens to a study, in what order, and what is remembered."""
