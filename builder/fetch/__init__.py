"""The files of a source from where they are to a folder: listed, transferred, checked, unpacked."""
