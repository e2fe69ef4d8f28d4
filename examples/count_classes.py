"""What a built folder or repository holds, by SQL and by data frames on its index: no picture is read.

python examples/count_classes.py OUT
python examples/count_classes.py demo  # of sa-med2d demo
"""

import sys

import duckdb
import polars as pl

out = sys.argv[1]
index = f"{out}/index/**/*.parquet"

print("masks and their median share of the image, by class (DuckDB)")
question = f"""
    select mask.label, count(*) as masks, round(median(mask.area / (height * width)), 4) as share
    from (select height, width, unnest(masks) as mask from '{index}')
    group by mask.label order by masks desc, mask.label
"""
for label, masks, share in duckdb.sql(question).fetchall():
    print(f"{label}: {masks} masks, {share}")

print("images and patients, by modality and split (polars)")
counted = (
    pl.scan_parquet(index)
    .group_by("modality", "split")
    .agg(pl.len().alias("images"), pl.struct("source", "patient").n_unique().alias("patients"))
    .sort("modality", "split")
    .collect()
)
for modality, split, images, patients in counted.iter_rows():
    print(f"{modality} {split}: {images} images of {patients} patients")
