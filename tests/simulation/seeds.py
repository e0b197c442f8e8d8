"""Seeds that have shown a defect. What is here is played in every run of the tests.

A seed means the same as long as `scenario.py` draws the same from it; when that changes, a defect that was mended is
held by the test that was written for it.
"""

from __future__ import annotations

#: 341, 463: a driver's error that kept a page; 2629: a request that came after the end of its run; 54502, 60019: runs whose
#: state is in a bucket, thawed, and drained; 17277: a wait too short for a clock to notice.
FOUND = (341, 463, 2629, 17277, 54502, 60019)
