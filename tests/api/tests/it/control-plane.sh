#!/bin/sh
# Runs etcd and kube-apiserver as long as the test process lives. Whoever starts this asks the kernel to send SIGTERM when it dies,
# however it dies; then both programs are killed and the directory is removed. USR1 and USR2 put the store back to an older state.
# Arguments: directory, etcd, kube-apiserver, port of etcd, port of its peers, port of kube-apiserver, issuer of tokens, and kube-apiserver's
# address if it is not to be on loopback.
set -u
directory=$1 etcd=$2 apiserver=$3 client=$4 peer=$5 secure=$6 issuer=$7 address=${8:-127.0.0.1}

children=
end() {
    trap '' TERM
    trap - EXIT
    for child in $children; do kill -KILL "$child" 2>/dev/null || true; done
    wait
    rm -rf "$directory"
    exit 0
}
trap end TERM EXIT
trap '' INT

start() {
    setpriv --pdeathsig KILL -- "$etcd" \
        --data-dir "$directory/etcd" --unsafe-no-fsync \
        --listen-client-urls "http://127.0.0.1:$client" --advertise-client-urls "http://127.0.0.1:$client" \
        --listen-peer-urls "http://127.0.0.1:$peer" >>"$directory/etcd.log" 2>&1 &
    store=$!
    setpriv --pdeathsig KILL -- "$apiserver" \
        --etcd-servers "http://127.0.0.1:$client" \
        --bind-address "$address" --advertise-address "$address" --secure-port "$secure" --endpoint-reconciler-type none \
        --cert-dir "$directory/tls" --token-auth-file "$directory/tokens.csv" \
        --service-cluster-ip-range 10.0.0.0/24 --allow-privileged \
        --authorization-mode RBAC --disable-admission-plugins ServiceAccount --enable-aggregator-routing \
        --service-account-issuer "$issuer" \
        --service-account-key-file "$directory/accounts.pub" --service-account-signing-key-file "$directory/accounts.key" \
        >>"$directory/kube-apiserver.log" 2>&1 &
    children="$store $!"
    echo "$!" >"$directory/kube-apiserver.pid.new"
    mv "$directory/kube-apiserver.pid.new" "$directory/kube-apiserver.pid"
}

# USR1: keep a copy of the store as it is at one instant.
copy() {
    kill -STOP "$store"
    cp -r "$directory/etcd" "$directory/copy.new"
    kill -CONT "$store"
    mv "$directory/copy.new" "$directory/copy"
}

# USR2: both programs end, and start again on the copy.
put_back() {
    for child in $children; do kill -KILL "$child"; wait "$child"; done
    rm -rf "$directory/etcd"
    mv "$directory/copy" "$directory/etcd"
    start
}

trap copy USR1
trap put_back USR2
start
echo "$$" >"$directory/script.pid"
# A signal ends the waiting, not the programs.
while :; do
    wait
    [ "$?" -gt 128 ] || break
done
