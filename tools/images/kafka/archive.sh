# shellcheck shell=bash
# Run by bash inside the new Kafka image, once: make the class-data archives of the two JVMs that a start consists of,
# by running each of them through what tests will do.
set -euo pipefail
quiet='-Xlog:disable -Xlog:all=error:stderr'   # a warning for each of the hundred classes that cannot be archived
export KAFKA_HEAP_OPTS=-Xmx512m PATH=/opt/kafka/bin:$PATH

KAFKA_OPTS="$quiet -XX:ArchiveClassesAtExit=/opt/kafka/storage.jsa" CLUSTER_ID=aXRlc3Qtc3RhbmQtaW4tMQ \
    kafka-run-class.sh kafka.docker.KafkaDockerWrapper setup \
    --default-configs-dir /etc/kafka/docker --mounted-configs-dir /mnt/shared/config \
    --final-configs-dir /opt/kafka/config

KAFKA_OPTS="$quiet -XX:ArchiveClassesAtExit=/opt/kafka/kafka.jsa" \
    kafka-server-start.sh /opt/kafka/config/server.properties &
broker=$!
deadline=$((SECONDS + 60))
until kafka-topics.sh --bootstrap-server localhost:9092 --create --topic archive 2>/dev/null; do
    kill -0 "$broker"
    ((SECONDS < deadline))
    sleep 0.2
done
echo message | kafka-console-producer.sh --bootstrap-server localhost:9092 --topic archive
kafka-console-consumer.sh --bootstrap-server localhost:9092 --topic archive --group archive \
    --from-beginning --max-messages 1
kill -TERM "$broker"
wait "$broker" || [[ $? -eq 143 ]]   # a JVM that ends by SIGTERM says 143

# Neither the configuration nor the storage of this run belongs into the image.
cp /etc/kafka/docker/{server.properties,log4j2.yaml,tools-log4j2.yaml} /opt/kafka/config/
rm -rf /tmp/* /opt/kafka/logs/*
ls -l /opt/kafka/*.jsa
