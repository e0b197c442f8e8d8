"""From row to upload: templates, object keys, headers. Pure and synchronous."""
