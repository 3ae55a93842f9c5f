"""Administers MinIO with the AWS CLI's own library: buckets|policies NAME,NAME,...

The administrator and the authority are in the AWS CLI's environment variables, and so is another address than AWS's.
"""
import json
import os
import sys

from awscli.botocore.auth import S3SigV4Auth
from awscli.botocore.awsrequest import AWSRequest
from awscli.botocore.httpsession import URLLib3Session
from awscli.botocore.session import get_session

HOST = os.environ.get("AWS_ENDPOINT_URL", "https://s3.us-east-1.amazonaws.com")
REGION = "us-east-1"
session = get_session()


def policy(**statement):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]})


def make_public_bucket(name):
    s3 = session.create_client("s3", region_name=REGION)
    try:
        s3.head_bucket(Bucket=name)
    except s3.exceptions.ClientError:
        s3.create_bucket(Bucket=name)
    read = policy(Principal={"AWS": ["*"]}, Action=["s3:GetObject"], Resource=[f"arn:aws:s3:::{name}/*"])
    s3.put_bucket_policy(Bucket=name, Policy=read)


def allow_subject(name):
    """MinIO's own interface, signed as a request to S3."""
    write = policy(Action=["s3:*"], Resource=["arn:aws:s3:::demo-data*", "arn:aws:s3:::from-*"])
    url = f"{HOST}/minio/admin/v3/add-canned-policy"
    request = AWSRequest("PUT", url, data=write.encode(), params={"name": name})
    S3SigV4Auth(session.get_credentials(), "s3", REGION).add_auth(request)
    answer = URLLib3Session(verify=os.environ["AWS_CA_BUNDLE"]).send(request.prepare())
    if answer.status_code != 200:
        sys.exit(f"MinIO refuses the policy {name}: {answer.status_code} {answer.text}")


what, names = sys.argv[1:]
for name in names.split(","):
    {"buckets": make_public_bucket, "policies": allow_subject}[what](name)
