"""The report on a time: figures, pictures, a page and a table. Imported by its verb alone: the pictures are heavy."""
