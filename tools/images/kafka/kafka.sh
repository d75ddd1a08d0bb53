#!/usr/bin/env bash
# Every script of /opt/kafka/bin in the stand-in is a link to this one, which starts the class that belongs to its name.
set -euo pipefail

declare -A CLASSES=(
    [kafka-acls.sh]=org.apache.kafka.tools.AclCommand
    [kafka-broker-api-versions.sh]=org.apache.kafka.tools.BrokerApiVersionsCommand
    [kafka-cluster.sh]=org.apache.kafka.tools.ClusterTool
    [kafka-configs.sh]=kafka.admin.ConfigCommand
    [kafka-console-consumer.sh]=org.apache.kafka.tools.consumer.ConsoleConsumer
    [kafka-console-producer.sh]=org.apache.kafka.tools.ConsoleProducer
    [kafka-consumer-groups.sh]=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand
    [kafka-consumer-perf-test.sh]=org.apache.kafka.tools.ConsumerPerformance
    [kafka-delete-records.sh]=org.apache.kafka.tools.DeleteRecordsCommand
    [kafka-dump-log.sh]=kafka.tools.DumpLogSegments
    [kafka-features.sh]=org.apache.kafka.tools.FeatureCommand
    [kafka-get-offsets.sh]=org.apache.kafka.tools.GetOffsetShell
    [kafka-groups.sh]=org.apache.kafka.tools.GroupsCommand
    [kafka-leader-election.sh]=org.apache.kafka.tools.LeaderElectionCommand
    [kafka-log-dirs.sh]=org.apache.kafka.tools.LogDirsCommand
    [kafka-metadata-quorum.sh]=org.apache.kafka.tools.MetadataQuorumCommand
    [kafka-producer-perf-test.sh]=org.apache.kafka.tools.ProducerPerformance
    [kafka-server-start.sh]=kafka.Kafka
    [kafka-storage.sh]=kafka.tools.StorageTool
    [kafka-topics.sh]=org.apache.kafka.tools.TopicCommand
    [kafka-transactions.sh]=org.apache.kafka.tools.TransactionsCommand
    [kafka-run-class.sh]=""
)

name=${0##*/}
if [[ $name == kafka.sh && ${1:-} == --names ]]; then   # used once, when the image is built
    printf '%s\n' "${!CLASSES[@]}"
    exit 0
fi

home=/opt/kafka
class=${CLASSES[$name]}
if [[ -z $class ]]; then
    class=${1:?usage: kafka-run-class.sh CLASS [ARGUMENT...]}
    shift
fi

# Jar by jar in one fixed order: the class-data archive is valid for exactly the class path it was made with.
jars=("$home"/libs/*.jar)
CLASSPATH=$(IFS=:; printf '%s' "${jars[*]}")${CLASSPATH:+:$CLASSPATH}
export CLASSPATH

if [[ $class == kafka.Kafka ]]; then
    heap=${KAFKA_HEAP_OPTS:--Xmx1G -Xms1G}
    logging=${KAFKA_LOG4J_OPTS:--Dlog4j2.configurationFile=file:$home/config/log4j2.yaml}
    archive=$home/kafka.jsa
else
    heap=${KAFKA_HEAP_OPTS:--Xmx256M}
    logging=${KAFKA_LOG4J_OPTS:--Dlog4j2.configurationFile=file:$home/config/tools-log4j2.yaml}
    archive=$home/storage.jsa
fi
tuning=${KAFKA_JVM_PERFORMANCE_OPTS:--XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35}
share=
if [[ -r $archive ]]; then
    share="-XX:SharedArchiveFile=$archive -Xlog:cds=off -Xlog:cds+dynamic=off -Xlog:class+path=off"
fi

# The variables hold several options each, so they are split on purpose; the user's come last, and the last one wins.
# shellcheck disable=SC2086
exec java $heap -Djava.awt.headless=true $logging $share $tuning ${KAFKA_JMX_OPTS:-} ${KAFKA_OPTS:-} "$class" "$@"
