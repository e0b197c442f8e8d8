"""Where a job's state is kept between runs."""
