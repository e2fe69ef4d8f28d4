"""Caches of decoded images and label maps in one size, which `sa_med2d_20m.load` reads by number."""
