"""Administers MinIO: CA USER PASSWORD buckets|policies NAME,NAME,..."""
import json
import sys

import urllib3
from minio import Minio, MinioAdmin
from minio.credentials import StaticProvider

HOST, REGION = "s3.us-east-1.amazonaws.com", "us-east-1"
ca, user, password, what, names = sys.argv[1:]
http = urllib3.PoolManager(cert_reqs="CERT_REQUIRED", ca_certs=ca)


def policy(*statements):
    return {"Version": "2012-10-17", "Statement": list(statements)}


def make_public_bucket(name):
    s3 = Minio(HOST, user, password, region=REGION, http_client=http)
    if not s3.bucket_exists(name):
        s3.make_bucket(name)
    read = {"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": ["s3:GetObject"], "Resource": [f"arn:aws:s3:::{name}/*"]}
    s3.set_bucket_policy(name, json.dumps(policy(read)))


def allow_subject(name):
    admin = MinioAdmin(endpoint=HOST, credentials=StaticProvider(user, password), region=REGION, secure=True, http_client=http)
    buckets = ["arn:aws:s3:::demo-data*", "arn:aws:s3:::from-*"]
    admin.policy_add(name, policy=policy({"Effect": "Allow", "Action": ["s3:*"], "Resource": buckets}))


for name in names.split(","):
    {"buckets": make_public_bucket, "policies": allow_subject}[what](name)
