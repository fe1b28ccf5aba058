//! Metrics as OTLP, under the names that Prometheus reads.

use foreplan_core::time::Timestamp;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    metrics::v1::{
        AggregationTemporality, Gauge, Metric as OtlpMetric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
        Sum, metric::Data, number_data_point,
    },
    resource::v1::Resource,
};
use prost::Message as _;

use super::Metrics;
use crate::semconv;

/// The process that counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Its service: the roles that it plays.
    pub service: String,
    /// What tells it from others: counters of two processes are two.
    pub instance: String,
    /// When it began to count.
    pub since: Timestamp,
}

impl Metrics {
    /// Returns the bytes of an OTLP request.
    #[must_use]
    pub fn to_otlp(&self, by: &Counter, now: Timestamp) -> Vec<u8> {
        let metrics = self.values.iter().map(|(metric, values)| {
            let data_points = values.iter().map(|(label, value)| NumberDataPoint {
                attributes: metric.label.map(|name| text(name, label)).into_iter().collect(),
                start_time_unix_nano: if metric.is_counter { nanos(by.since) } else { 0 },
                time_unix_nano: nanos(now),
                value: Some(number_data_point::Value::AsInt(i64::try_from(*value).unwrap_or(i64::MAX))),
                ..NumberDataPoint::default()
            });
            let data_points = data_points.collect();
            let data = if metric.is_counter {
                let aggregation_temporality = AggregationTemporality::Cumulative as i32;
                Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: true })
            } else {
                Data::Gauge(Gauge { data_points })
            };
            OtlpMetric {
                name: metric.name.to_owned(),
                description: metric.help.to_owned(),
                data: Some(data),
                ..OtlpMetric::default()
            }
        });
        let resource = Resource {
            attributes: vec![
                text(semconv::SERVICE_NAME, &by.service),
                text(semconv::SERVICE_INSTANCE, &by.instance),
            ],
            ..Resource::default()
        };
        let (name, version) = semconv::METRICS_SCOPE;
        let scope = InstrumentationScope {
            name: name.to_owned(),
            version: version.to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_metrics =
            ScopeMetrics { scope: Some(scope), metrics: metrics.collect(), schema_url: String::new() };
        let resource_metrics = ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![scope_metrics],
            schema_url: String::new(),
        };
        ExportMetricsServiceRequest { resource_metrics: vec![resource_metrics] }.encode_to_vec()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, key_strindex: 0 }
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.0).unwrap_or(0).saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{ATTEMPTS, RUNS};

    #[test]
    fn counters_are_sums_and_the_rest_are_gauges_under_the_same_names() {
        let mut metrics = Metrics::default();
        metrics.add(ATTEMPTS, "succeeded", 2);
        metrics.set(RUNS, "waiting", 1);
        let by = Counter {
            service: "foreplan-tracker".to_owned(),
            instance: "host-1".to_owned(),
            since: Timestamp(1),
        };
        let bytes = metrics.to_otlp(&by, Timestamp(9));
        let request = ExportMetricsServiceRequest::decode(bytes.as_slice()).unwrap();
        let of = &request.resource_metrics[0];
        assert_eq!(of.resource.as_ref().unwrap().attributes[1], text("service.instance.id", "host-1"));
        let found = &of.scope_metrics[0].metrics;
        let text = metrics.to_prometheus();
        assert!(found.iter().all(|metric| text.contains(&format!("# TYPE {} ", metric.name))));
        assert_eq!(found.len(), 2);
        for metric in found {
            match metric.data.as_ref().unwrap() {
                Data::Sum(sum) => {
                    assert_eq!(metric.name, ATTEMPTS.name);
                    assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
                    let point = &sum.data_points[0];
                    assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (1_000, 9_000));
                    assert_eq!(point.value, Some(number_data_point::Value::AsInt(2)));
                    assert_eq!(point.attributes, [super::text("outcome", "succeeded")]);
                }
                Data::Gauge(gauge) => assert_eq!(gauge.data_points.len(), 1),
                other => panic!("{other:?}"),
            }
        }
    }
}
