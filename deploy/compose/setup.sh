#!/bin/sh
# Updates the schema of the database. At the first start, makes the key of the workers.
set -eu
image-categorizer migrate
[ -s /keys/worker ] && exit
umask 077
image-categorizer keys create workers --role worker >/keys/worker.new
mv /keys/worker.new /keys/worker
