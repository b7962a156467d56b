# Runs HAProxy, and has it read the certificate again when that changes: a new process takes over the port, and
# the old one ends with its connections.
haproxy -W -db -f /stage-tls/haproxy.cfg &
master=$!
ending=
trap 'ending=1; kill -USR1 $master' TERM INT
seen=$(cat /tls/* | sha256sum)
while [ -z "$ending" ] && kill -0 $master 2>/dev/null; do
    sleep "${LOOK_SECONDS:-30}" &
    wait $! || true
    now=$(cat /tls/* | sha256sum)
    if [ "$now" != "$seen" ]; then
        seen=$now
        kill -USR2 $master
    fi
done
wait $master
