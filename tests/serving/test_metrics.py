"""Metrics: counts add up over replicas and are text that Prometheus' own parser reads."""

from prometheus_client.parser import text_string_to_metric_families

from serving.metrics import Metrics, render


def test_prometheus_reads_it_and_replicas_add_up() -> None:
    one, two = Metrics(), Metrics()
    for metrics, values in ((one, (0.05, 3.0)), (two, (3.0, 5000.0))):
        metrics.count("ranked_total", 2, bucket='od"d\\\n')
        metrics.put("outbox_requests", 3)
        for value in values:
            metrics.histogram("rank_ms", bucket="a").add(value)
    families = {f.name: f for f in text_string_to_metric_families(render([one.snapshot(), two.snapshot()]))}
    (ranked,) = families["scorefusion_ranked"].samples
    assert (ranked.value, ranked.labels) == (4, {"bucket": 'od"d\\\n'})
    assert families["scorefusion_outbox_requests"].samples[0].value == 6
    samples = {(s.name, s.labels.get("le")): s.value for s in families["scorefusion_rank_ms"].samples}
    assert samples["scorefusion_rank_ms_bucket", "0.1"] == 1
    assert samples["scorefusion_rank_ms_bucket", "5.0"] == 3
    assert samples["scorefusion_rank_ms_bucket", "+Inf"] == 4
    assert samples["scorefusion_rank_ms_count", None] == 4
    assert samples["scorefusion_rank_ms_sum", None] == 5006.05
