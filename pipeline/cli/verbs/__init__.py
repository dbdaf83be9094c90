"""The verbs of the command line, one a module; each has `main(options) -> exit status`."""
