"""The original release, as folder, zip or split zip, becomes cases of a build without being unpacked."""
