# What the AWS CLI's image lacks, for the scripts that run in it.
fetch() {
  python3 -c '
import ssl, sys, urllib.request
authority, url = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
sys.stdout.buffer.write(urllib.request.urlopen(url, timeout=5, context=context).read())
' "$@"
}
# -r [.NAME]
jq() {
  python3 -c '
import json, sys
value = json.load(sys.stdin)
for name in sys.argv[2:]:
    value = value[name.lstrip(".")]
print(value if isinstance(value, str) else json.dumps(value, indent=2))
' "$@"
}
administer() { python3 /demo/administer_minio.py "$@"; }
