"""Generated from proto/image_categorizer/v1; do not edit."""
