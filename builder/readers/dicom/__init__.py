"""DICOM: single files, series, cines, slides, and what they say of themselves."""
