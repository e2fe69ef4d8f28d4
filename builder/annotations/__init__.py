"""From an annotation file and its image to named masks: DICOM SEG and RTSTRUCT, COCO, YOLO."""
