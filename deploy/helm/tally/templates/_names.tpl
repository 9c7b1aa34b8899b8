{{- define "tally.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- /* These three take a dictionary of `root` and `role`. */ -}}
{{- define "tally.name" -}}
{{ include "tally.fullname" .root }}-{{ .role }}
{{- end }}

{{- define "tally.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{- define "tally.labels" -}}
{{ include "tally.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{- define "tally.topology" -}}
{{ .Values.topology | default (.Files.Get "files/topology.yaml") }}
{{- end }}

{{- /* The partitions of the root topic: the one that `decode` reads. */ -}}
{{- define "tally.partitions" -}}
{{- $topology := include "tally.topology" . | fromYaml }}
{{- $root := "" }}
{{- range $topology.processors }}{{ if eq .type "decode" }}{{ $root = .from }}{{ end }}{{ end }}
{{- if not $root }}{{ fail "topology: no processor of type decode" }}{{ end }}
{{- (index $topology.topics $root).partitions | default 1 }}
{{- end }}

{{- /* The greatest number of pods of a StatefulSet that KEDA starts. */ -}}
{{- define "tally.maxReplicas" -}}
{{- $role := index .root.Values .role }}
{{- $threads := $role.threads | default 1 | int }}
{{- $useful := div (add (include "tally.partitions" .root | int) $threads -1) $threads | int }}
{{- if $role.keda.maxReplicas }}{{ min $useful (int $role.keda.maxReplicas) }}{{ else }}{{ $useful }}{{ end }}
{{- end }}

{{- /* How many pods of a StatefulSet there may be. */ -}}
{{- define "tally.mostReplicas" -}}
{{- $role := index .root.Values .role }}
{{- if $role.keda.enabled }}{{ include "tally.maxReplicas" . }}{{ else if $role.hpa.enabled }}{{ $role.hpa.maxReplicas }}{{ else }}{{ $role.replicas }}{{ end }}
{{- end }}
