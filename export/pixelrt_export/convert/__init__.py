"""From a network to the deployed graph, per task."""
