"""A run folder: its recipe, its model, its state."""
