"""The images and masks of a case become its encoded samples."""
