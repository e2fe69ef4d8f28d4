"""What a source is: its recipe, its classes, and the vocabulary that they are resolved in."""
