"""Packing: many rows become one object. Pure and synchronous; `open_packing` in `formats` is the way in.

Whoever reads rows decides where a pack ends; what is here turns its rows into bytes that are final as soon as they come
out. The same rows in the same order are the same bytes, which is what lets a resume write the same objects.
"""
