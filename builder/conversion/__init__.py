"""From the images and masks of a case to its encoded samples: arrays in, arrays out."""
