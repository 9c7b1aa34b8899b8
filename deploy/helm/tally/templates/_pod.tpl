{{- define "tally.secretVariable" -}}
{{- if .secret.name }}
- name: {{ .name }}
  valueFrom: { secretKeyRef: { name: {{ .secret.name }}, key: {{ .secret.key }} } }
{{- end }}
{{- end }}

{{- define "tally.variable" -}}
{{- if .value }}
- name: {{ .name }}
  value: {{ .value | toString | quote }}
{{- end }}
{{- end }}

{{- /* The console reads these by the names of the pods: a Service would answer with any of them. */ -}}
{{- define "tally.peers" -}}
{{- $urls := list }}
{{- range $role := list "process" "sink" }}
{{- $name := include "tally.name" (dict "root" $ "role" $role) }}
{{- range $n := until (include "tally.mostReplicas" (dict "root" $ "role" $role) | int) }}
{{- $urls = append $urls (printf "http://%s-%d.%s:8080" $name $n $name) }}
{{- end }}
{{- end }}
{{- join "," $urls }}
{{- end }}

{{- /* The variables of a role: only those that it reads. */ -}}
{{- define "tally.env" -}}
{{- $values := .root.Values }}
{{- $serves := has .role (list "ingest" "api") }}
{{- $stores := has .role (list "sink" "api") }}
{{- include "tally.variable" (dict "name" "TALLY_LISTEN" "value" "0.0.0.0:8080") }}
{{- include "tally.variable" (dict "name" "TALLY_TOPOLOGY" "value" "/etc/tally/topology/topology.yaml") }}
{{- include "tally.variable" (dict "name" "TALLY_LOG" "value" $values.log.url) }}
{{- if $values.log.propertiesSecret.name }}
{{- include "tally.variable" (dict "name" "TALLY_LOG_PROPERTIES" "value" (printf "/etc/tally/log/%s" $values.log.propertiesSecret.key)) }}
{{- end }}
{{- if $values.auth.openToEveryone }}
{{- include "tally.variable" (dict "name" "TALLY_OPEN_TO_EVERYONE" "value" "true") }}
{{- end }}
{{- if $values.auth.keysSecret.name }}
{{- include "tally.variable" (dict "name" "TALLY_KEYS" "value" (printf "/etc/tally/keys/%s" $values.auth.keysSecret.key)) }}
{{- end }}
{{- with $values.auth.jwks }}
{{- include "tally.variable" (dict "name" "TALLY_JWKS" "value" .url) }}
{{- include "tally.variable" (dict "name" "TALLY_JWT_ISSUER" "value" .issuer) }}
{{- include "tally.variable" (dict "name" "TALLY_JWT_AUDIENCE" "value" .audience) }}
{{- end }}
{{- if $stores }}
{{- include "tally.secretVariable" (dict "name" "TALLY_DATABASE" "secret" $values.database.secret) }}
{{- end }}
{{- if or $stores $serves }}
{{- include "tally.secretVariable" (dict "name" "TALLY_CACHE" "secret" $values.cache.secret) }}
{{- end }}
{{- if $serves }}
{{- include "tally.variable" (dict "name" "TALLY_TRUSTED_PROXIES" "value" (join "," $values.trustedProxies)) }}
{{- else }}
{{- include "tally.variable" (dict "name" "TALLY_STATE" "value" "/data/state") }}
{{- end }}
{{- if eq .role "process" }}
{{- include "tally.variable" (dict "name" "TALLY_THREADS" "value" $values.process.threads) }}
{{- end }}
{{- if eq .role "api" }}
{{- include "tally.secretVariable" (dict "name" "TALLY_DATABASE_READ" "secret" $values.database.readSecret) }}
{{- include "tally.secretVariable" (dict "name" "TALLY_CACHE_READ" "secret" $values.cache.readSecret) }}
{{- include "tally.variable" (dict "name" "TALLY_PEERS" "value" (include "tally.peers" .root)) }}
{{- include "tally.secretVariable" (dict "name" "TALLY_PEER_KEY" "secret" $values.api.peerKeySecret) }}
{{- include "tally.variable" (dict "name" "TALLY_INGEST_URL" "value" $values.api.ingestUrl) }}
{{- end }}
{{- with (index $values .role).env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* The template of a role's pods. */ -}}
{{- define "tally.pod" -}}
{{- $root := .root }}
{{- $values := $root.Values }}
{{- $role := index $values .role }}
{{- $serves := has .role (list "ingest" "api") -}}
metadata:
  labels:
    {{- include "tally.labels" . | nindent 4 }}
  annotations:
    checksum/topology: {{ include "tally.topology" $root | sha256sum }}
spec:
  serviceAccountName: {{ include "tally.fullname" $root }}
  automountServiceAccountToken: false
  # Variables named after Services begin with TALLY_ too.
  enableServiceLinks: false
  {{- with $values.imagePullSecrets }}
  imagePullSecrets: {{ toYaml . | nindent 4 }}
  {{- end }}
  # SIGTERM ends a process within 10 s.
  terminationGracePeriodSeconds: {{ $serves | ternary 20 15 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: { type: RuntimeDefault }
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: {{ $values.spread }}
      labelSelector:
        matchLabels:
          {{- include "tally.selector" $ | nindent 10 }}
    {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity: {{ toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: tally
      image: "{{ $values.image.repository }}:{{ $values.image.tag | default $root.Chart.AppVersion }}"
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args: {{ prepend $role.args .role | toJson }}
      env:
        {{- include "tally.env" . | nindent 8 }}
      ports:
        - { name: http, containerPort: 8080 }
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: { drop: [ALL] }
      # A start waits for the stores, and answers nothing until then.
      startupProbe:
        httpGet: { path: /livez, port: http }
        periodSeconds: 2
        failureThreshold: 150
      livenessProbe:
        httpGet: { path: /livez, port: http }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: { path: /readyz, port: http }
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 2
      {{- if $serves }}
      # SIGTERM closes the port at once: until then the Service must have noticed.
      lifecycle:
        preStop: { sleep: { seconds: 5 } }
      {{- end }}
      resources: {{ toYaml $role.resources | nindent 8 }}
      volumeMounts:
        - { name: topology, mountPath: /etc/tally/topology, readOnly: true }
        {{- if $values.auth.keysSecret.name }}
        - { name: keys, mountPath: /etc/tally/keys, readOnly: true }
        {{- end }}
        {{- if $values.log.propertiesSecret.name }}
        - { name: log, mountPath: /etc/tally/log, readOnly: true }
        {{- end }}
        {{- if not $serves }}
        - { name: data, mountPath: /data }
        {{- end }}
  volumes:
    - name: topology
      configMap: { name: {{ include "tally.fullname" $root }}-topology }
    {{- if $values.auth.keysSecret.name }}
    - name: keys
      secret: { secretName: {{ $values.auth.keysSecret.name }}, defaultMode: 288 }
    {{- end }}
    {{- if $values.log.propertiesSecret.name }}
    - name: log
      secret: { secretName: {{ $values.log.propertiesSecret.name }}, defaultMode: 288 }
    {{- end }}
{{- end }}
