// PM2 on one's own server. `pm2 start deploy/pm2/ecosystem.config.cjs`; then, to restart without
// refusing a webhook: `pm2 sendSignal SIGHUP experiment-engine`. (`pm2 restart` closes the port.)
module.exports = {
  apps: [
    {
      name: "experiment-engine",
      script: "/opt/experiment-engine/bin/experiment-engine",
      args: "keep",
      interpreter: "none",
      cwd: "/var/lib/experiment-engine", // `.env` is read here
      kill_timeout: 30000, // milliseconds; the engine needs at most 20 seconds
      autorestart: true,
    },
  ],
};
