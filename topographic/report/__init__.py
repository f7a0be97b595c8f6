"""What it looked like: figures, tables and pages."""
