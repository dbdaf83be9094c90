"""What is typed: the start of the program, its verbs, their words and exit statuses. Nothing is decided here."""
