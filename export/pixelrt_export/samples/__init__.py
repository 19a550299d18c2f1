"""What the ranges are measured on and the gate judges, per task."""
