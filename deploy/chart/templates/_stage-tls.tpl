{{- /* HAProxy beside Serve's proxy. It starts before the pod's container, and ends after it. */ -}}
{{- define "unclip.tlsProxy" -}}
- name: tls
  image: {{ .Values.stageTls.image }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  command: [sh, /stage-tls/run.sh]
  securityContext: {{- include "unclip.containerSecurity" . | nindent 4 }}
  ports:
    - {name: serve-tls, containerPort: 9443}
  startupProbe:
    tcpSocket: {port: serve-tls}
    periodSeconds: 1
    failureThreshold: 60
  livenessProbe:
    tcpSocket: {port: serve-tls}
    periodSeconds: 10
  resources: {{- toYaml .Values.stageTls.resources | nindent 4 }}
  volumeMounts:
    - {name: stage-tls, mountPath: /stage-tls, readOnly: true}
    - {name: stage-certificate, mountPath: /tls, readOnly: true}
{{- end }}

{{- define "unclip.tlsProxyVolumes" -}}
- name: stage-tls
  configMap: {name: {{ .Release.Name }}-stage-tls}
- name: stage-certificate
  secret: {secretName: {{ .Values.stageTls.secret }}, defaultMode: 0440}
{{- end }}

{{- /* Where gateways reach a stage's proxies. */ -}}
{{- define "unclip.stagePort" -}}
{{ ternary "9443" "9000" (ne .Values.stageTls.secret "") }}
{{- end }}
