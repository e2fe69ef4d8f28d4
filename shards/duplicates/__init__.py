"""Copies: the same picture or volume twice, within a set or in two, whatever was done to its grey values."""
