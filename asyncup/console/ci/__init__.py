"""What a run says as a step of a pipeline: annotations, a step summary, outputs, sections; and nothing that steers the pipeline."""
