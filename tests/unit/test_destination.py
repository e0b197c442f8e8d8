"""`--to`, taken apart: buckets, access points, folders, and nothing."""

from __future__ import annotations

import pytest

from asyncup.destinations import parse_destination
from asyncup.errors import UsageError


@pytest.mark.parametrize(
    ("to", "kind", "place", "template"),
    [
        ("s3://bucket/{id}", "s3", "bucket", "{id}"),
        ("s3://bucket//a/{id}", "s3", "bucket", "/a/{id}"),
        ("s3://bucket/arn:aws:s3:x/{id}", "s3", "bucket", "arn:aws:s3:x/{id}"),
        ("null:", "null", "", "row"),
        ("null:{id}", "null", "", "{id}"),
    ],
)
def test_a_destination_has_a_place_and_a_template(to: str, kind: str, place: str, template: str) -> None:
    found = parse_destination(to)
    assert (found.kind, found.place, found.template.text) == (kind, place, template)


def test_the_folder_of_files_ends_before_the_first_segment_with_a_column() -> None:
    found = parse_destination("file:///data/out/x-{id}/{n}.json")
    assert (found.kind, found.place, found.template.literals) == ("file", "/data/out", ("x-", "/", ".json"))


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:s3:eu-central-1:123456789012:accesspoint/my-point",
        "arn:aws:s3:eu-central-1:123456789012:accesspoint:my-point",
        "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/my-point",
        "arn:aws-us-gov:s3:us-gov-west-1:123456789012:accesspoint/my-point",
        "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap",
        "arn:aws:s3::123456789012:accesspoint:mfzwi23gnjvgw.mrap",
        "arn:aws:s3-object-lambda:eu-central-1:123456789012:accesspoint/my-point",
        "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01ac5d28a6a232904/accesspoint/my-point",
        "arn:aws:s3-outposts:us-west-2:123456789012:outpost:op-01ac5d28a6a232904:accesspoint:my-point",
    ],
)
@pytest.mark.parametrize("template", ["{id}.json", "/a/{id}", "accesspoint/{id}"])
def test_an_access_point_stands_for_a_bucket_with_its_whole_arn(arn: str, template: str) -> None:
    found = parse_destination(f"s3://{arn}/{template}")
    assert (found.kind, found.place, found.template.text) == ("s3", arn, template)


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("s3://", "names no bucket"),
        ("s3:///{id}", "names no bucket"),
        ("s3://{bucket}/{id}", "names no bucket"),
        ("s3://bucket", "has no template"),
        ("s3://bucket/", "has no template"),
        ("s3://arn:aws:s3:::bucket/{id}", "names no access point"),
        ("s3://arn:aws:s3:eu-central-1:123456789012:accesspoint/{id}", "names no access point"),
        ("s3://arn:aws:s3:eu-central-1:1234:accesspoint/point/{id}", "names no access point"),
        ("s3://arn:aws:s3:eu-central-1:123456789012:bucket/point/{id}", "names no access point"),
        ("s3://arn:aws:sqs:eu-central-1:123456789012:accesspoint/point/{id}", "names no access point"),
        ("s3://arn:aws:s3:eu-central-1:123456789012:accesspoint/po{id}nt/x", "names no access point"),
        ("s3://arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-1/{id}", "names no access point"),
        ("s3://arn:aws:s3:eu-central-1:123456789012:accesspoint/point", "has no template"),
        ("s3://arn:aws:s3:eu-central-1:123456789012:accesspoint/point/", "has no template"),
        ("file://folder/{id}", "no destination"),
        ("file:///data/../{id}", "'.' or '..' segment"),
        ("bucket/{id}", "no destination"),
    ],
)
def test_what_is_no_destination_is_refused_with_the_form_that_is(to: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        parse_destination(to)
    assert caught.value.subject == "--to"
    assert caught.value.hint
