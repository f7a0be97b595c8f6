"""Making a model topographic."""
