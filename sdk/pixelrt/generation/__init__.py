"""Images out of noise, classes, masks and images: `Generator`, and the strategies that say what to draw."""
