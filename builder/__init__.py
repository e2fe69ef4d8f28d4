"""Source datasets to samples: recipes, discovery, plan, readers, conversion, executors, command line.

The modules in the order a case passes them: `recipe`, `discovery`, `plan`, `readers`, `volume`, `grid`, `slicing`,
`intensity`, `label_maps`, `components`, `packing`, `convert`, `task`, `executors`, `build`.
"""
