"""Seeds that have shown a defect. What is here is played in every run of the tests.

A seed means the same as long as `scenario.py` draws the same from it; when that changes, a defect that was mended is
held by the test that was written for it. These are from before tables were divided, and are played without
(`draw(seed, divided=False)`).
"""

from __future__ import annotations

#: 341, 463: a driver's error that kept a page; 2629: a request that came after the end of its run; 17277, 110265: a wait too
#: short for a clock to notice; 54502, 111414, 302615: runs whose state is in a bucket, thawed after others; 419323: a
#: removal that came late; 423789: a full run that saved what the one before had saved; 506160: goodbyes.
FOUND = (341, 463, 2629, 17277, 54502, 110265, 111414, 302615, 419323, 423789, 506160)
