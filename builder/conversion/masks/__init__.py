"""From mask values to classes, components and label maps."""
