"""What looks wrong in a set: one module for each fault that is looked for, with its measure and its threshold."""
