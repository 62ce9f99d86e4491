"""
``python create_bucket.py NAME``: create the bucket for XComs, unless it is there.

Address, keys and region come from the ``AWS_…`` variables.
"""

from __future__ import annotations

import sys

import botocore.session
from botocore.exceptions import ClientError

_THERE_ALREADY = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}


def main(name: str) -> int:
    session = botocore.session.get_session()
    region = session.get_config_variable("region")
    # Only the oldest region must not be named.
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        session.create_client("s3").create_bucket(Bucket=name, **where)
    except ClientError as error:
        if error.response["Error"]["Code"] not in _THERE_ALREADY:
            print(f"The bucket {name!r} could not be created: {error}", file=sys.stderr)
            return 1
    print(f"The bucket {name!r} is there.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
