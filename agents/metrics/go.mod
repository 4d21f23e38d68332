module mentatlab.example/metrics

go 1.24
