"""What becomes of a request: decided when its head has come, carried out when its body has."""

from __future__ import annotations

import re
import time

from asyncup.bench.simulator.answers import Answer, Refusal, error_xml
from asyncup.bench.simulator.asked import CONTROL, read_asked
from asyncup.bench.simulator.course import SILENT, SPOILED, Body, Course
from asyncup.bench.simulator.framing import Head
from asyncup.bench.simulator.misbehaviour import HTML, cut, garbage
from asyncup.bench.simulator.null import Null
from asyncup.bench.simulator.objects import Objects
from asyncup.bench.simulator.refusals import (
    FIXED,
    INTERNAL_ERROR,
    MAX_SKEW,
    SLOW_DOWN,
    redirected,
    skew_of,
    skewed,
)
from asyncup.bench.simulator.verify import payload_objection
from asyncup.bench.simulator.world import World

_SCOPE = re.compile(r"Credential=[^/]+/\d+/([^/]+)/")


class Judge:
    """Decides about requests, one after the other."""

    def __init__(self, world: World, null: Null) -> None:
        self._world = world
        self._null = null
        self._objects = None if world.store is None else Objects(world.store, world.words, null)

    def enter(self, head: Head, raw: bytes) -> Course | None:
        """Decide about a request whose head has come; None for what is not S3's."""
        if head.target.startswith(CONTROL):
            return None
        world = self._world
        asked, now = read_asked(head), time.monotonic()
        course = Course(head, raw, asked)
        if world.limits.rate and asked.key and not world.limits.admits(asked.bucket, asked.key, now):
            world.counters.throttled += 1
            course.refusal = self._slow_down()
            return course
        fault = world.faults.draw(asked, now) if world.faults.rules else None
        if fault is not None:
            world.counters.fault(fault)
            course.fault = fault
            course.refusal = self._refusal(fault, course)
        if course.refusal is None:
            course.refusal = self._objection(course)
        if course.refusal is None and (world.verifier is not None or self._keeps_body(asked.op)):
            course.body = Body()
        return course

    def conclude(self, course: Course, digest: str | None) -> Answer | None:
        """The answer to a request whose body has come, if it gets any; what is stored is stored here."""
        world, method, fault = self._world, course.head.method, course.fault
        world.words.tick()
        if fault == "hang":
            return None
        if course.refusal is None and world.verifier is not None:
            course.refusal = payload_objection(course)
        if course.refusal is not None:
            answer = world.words.error(course.refusal, method)
        elif fault == "complete-error":
            answer = world.words.make(200, error_xml(INTERNAL_ERROR))
        else:
            answer = self._perform(course, digest)
        if fault in SILENT:
            return None
        if fault == "wrong-etag":
            return answer._replace(raw=_with_other_etag(answer.raw))
        if fault in SPOILED:
            return answer._replace(raw=self._spoiled(fault, answer.raw))
        return answer

    def _keeps_body(self, op: str) -> bool:
        return self._objects is not None and self._objects.keeps_body(op)

    def _perform(self, course: Course, digest: str | None) -> Answer:
        if self._objects is not None and digest is not None:
            return self._objects.perform(course, digest)
        return self._null.perform(course.asked, course.head.method, digest if self._null.digests else None)

    def _slow_down(self) -> Refusal:
        seconds = self._world.manners.retry_after
        return SLOW_DOWN if seconds is None else SLOW_DOWN._replace(headers=f"Retry-After: {seconds}\r\n")

    def _refusal(self, fault: str, course: Course) -> Refusal | None:
        world = self._world
        match fault:
            case "slowdown":
                return self._slow_down()
            case "skew":
                return skewed(course.fields.get("x-amz-date", ""), world.words.now())
            case "redirect-301" | "redirect-307":
                return self._redirect(int(fault[-3:]), world.manners.redirect_region, course)
            case _:
                return FIXED.get(fault)

    def _objection(self, course: Course) -> Refusal | None:
        """What S3 has against a request before it reads its body."""
        world = self._world
        if world.manners.check_clock and "x-amz-date" in course.fields:
            now, requested = world.words.now(), course.fields["x-amz-date"]
            skew = skew_of(requested, now)
            if skew is None or skew > MAX_SKEW:
                return skewed(requested, now)
        region = world.manners.region
        if region is not None:
            scope = _SCOPE.search(course.fields.get("authorization", ""))
            if scope is not None and scope[1] != region:
                return self._elsewhere(scope[1], region, course)
        return None if world.verifier is None else world.verifier.objection(course)

    def _elsewhere(self, signed: str, region: str, course: Course) -> Refusal:
        if self._world.manners.wrong_region != "400":
            return self._redirect(int(self._world.manners.wrong_region), region, course)
        return Refusal(
            400,
            "AuthorizationHeaderMalformed",
            f"The authorization header is malformed; the region '{signed}' is wrong; expecting '{region}'",
            f"x-amz-bucket-region: {region}\r\n",
            f"<Region>{region}</Region>",
        )

    def _redirect(self, status: int, region: str, course: Course) -> Refusal:
        endpoint = self._world.manners.redirect_endpoint or course.fields.get("host", "")
        return redirected(status, course.asked.bucket, region, endpoint, course.head.target)

    def _spoiled(self, fault: str, raw: bytes) -> bytes:
        match fault:
            case "truncated":
                return cut(raw, self._world.dice)
            case "garbage":
                return garbage(self._world.dice)
            case _:
                return HTML


def _with_other_etag(raw: bytes) -> bytes:
    return re.sub(rb'(\r\nETag: ")[0-9a-z-]+', rb"\g<1>00000000000000000000000000000000", raw, count=1)
