"""The report of a run as one HTML file: what it is made of, and the parts that other reports can use (`page`, `charts`)."""
