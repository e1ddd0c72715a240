# Runs one throwaway PostgreSQL cluster in $2 with the programs in $1 on the loopback port $3, the
# password in $2/password, for as long as standard input stays open. Says `ready` once the server
# accepts connections; anything else is the reason why not.
set -u
bin=$1 dir=$2 port=$3
cd "$dir" || exit 1
trap '' PIPE
trap 'exit 1' HUP INT TERM
trap '"$bin/pg_ctl" stop -D data -m immediate >/dev/null 2>&1; cd /; rm -rf "$dir"' EXIT

"$bin/initdb" -D data -U postgres -A password --pwfile=password -E UTF8 --locale=C.UTF-8 --no-sync >log 2>&1 &&
    "$bin/pg_ctl" start -D data -l log -w \
        -o "-F -k '' -c listen_addresses=127.0.0.1 -c port=$port -c max_connections=300 \
            -c synchronous_commit=off -c full_page_writes=off -c wal_level=minimal \
            -c max_wal_senders=0 -c autovacuum=off -c jit=off" \
        </dev/null >/dev/null 2>&1 ||
    { cat log; exit 1; }
echo ready
# Ends when the other side is gone, however it went.
cat >/dev/null
