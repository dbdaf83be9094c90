"""One file a migration, named by its revision; each only adds, so that the release before works on: decision 0068."""
