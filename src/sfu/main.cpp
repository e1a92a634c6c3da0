// cfrealtime-sfu: the local SFU as a program.
#include <gio/gio.h>
#include <glib-unix.h>
#include <gst/gst.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>

#include "sfu/server.h"

namespace {

gboolean quit(gpointer loop) {
  g_main_loop_quit(static_cast<GMainLoop*>(loop));
  return G_SOURCE_REMOVE;
}

// Each session and each call takes descriptors, and 1024 of them, a usual limit, are soon gone.
void raise_descriptor_limit() {
  constexpr rlim_t kEnough = 65536;
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= kEnough) return;
  limit.rlim_cur = std::min(limit.rlim_max, kEnough);
  setrlimit(RLIMIT_NOFILE, &limit);
}

std::string from_environment(const char* name) {
  const char* value = g_getenv(name);
  return value ? value : "";
}

}  // namespace

int main(int argc, char** argv) {
  cfr::sfu::ServerSettings settings;
  cfr::sfu::SfuSettings& sfu = settings.sfu;
  g_autofree char* address = nullptr;
  g_autofree char* app_id = nullptr;
  g_autofree char* app_secret = nullptr;
  g_autofree char* turn_url = nullptr;
  g_autofree char* turn_secret = nullptr;
  int port = 0;
  gboolean quiet = FALSE;
  auto milliseconds = [](unsigned& value) { return reinterpret_cast<int*>(&value); };
  const GOptionEntry entries[] = {
      {"port", 'p', 0, G_OPTION_ARG_INT, &port, "TCP port of the API; 0 = a free one (default)", "N"},
      {"address", 'a', 0, G_OPTION_ARG_STRING, &address,
       "IP address of the API and of the media (default 127.0.0.1: this machine alone)", "IP"},
      {"app-id", 0, 0, G_OPTION_ARG_STRING, &app_id,
       "App id that is served (default: CFREALTIME_APP_ID, else demo)", "ID"},
      {"app-secret", 0, 0, G_OPTION_ARG_STRING, &app_secret,
       "Secret that is asked for; better in the environment, as CFREALTIME_APP_SECRET (default: none "
       "is asked for)",
       "SECRET"},
      {"turn-url", 0, 0, G_OPTION_ARG_STRING, &turn_url,
       "TURN URLs that generate-ice-servers tells, separated by commas (turn:host:port?transport=udp)",
       "URLS"},
      {"turn-secret", 0, 0, G_OPTION_ARG_STRING, &turn_secret,
       "static-auth-secret of that coturn; better in the environment, as CFREALTIME_TURN_SECRET",
       "SECRET"},
      {"connect-wait", 0, 0, G_OPTION_ARG_INT, milliseconds(sfu.connect_wait_ms),
       "Milliseconds that a call waits for the client to be connected (default 5000)", "MS"},
      {"media-wait", 0, 0, G_OPTION_ARG_INT, milliseconds(sfu.media_wait_ms),
       "Milliseconds that a pull waits for a track's first media (default 8000)", "MS"},
      {"track-timeout", 0, 0, G_OPTION_ARG_INT, milliseconds(sfu.track_timeout_ms),
       "Milliseconds of silence after which a track is gone (default 30000)", "MS"},
      {"session-timeout", 0, 0, G_OPTION_ARG_INT, milliseconds(sfu.session_timeout_ms),
       "Milliseconds of silence after which a session is gone (default 30000)", "MS"},
      {"unconnected-timeout", 0, 0, G_OPTION_ARG_INT, milliseconds(sfu.unconnected_ms),
       "Milliseconds after which a session that never connected is gone (default 120000)", "MS"},
      {"quiet", 'q', 0, G_OPTION_ARG_NONE, &quiet, "No line for each request on stderr", nullptr},
      {nullptr, 0, 0, G_OPTION_ARG_NONE, nullptr, nullptr, nullptr}};
  g_autoptr(GOptionContext) options =
      g_option_context_new("- a Realtime SFU on this machine, for development");
  g_option_context_set_summary(
      options,
      "Speaks the HTTPS API of the Cloudflare Realtime SFU (as plain HTTP, under /v1) and "
      "forwards\n"
      "real media, so that cfrealtimesink, cfrealtimesrc and browser applications can be tried\n"
      "without an account. Prints the API's URL, then a line for each request on stderr.\n"
      "GET /debug/requests and GET /debug/stats tell what happens, as JSON.\n"
      "It also keeps stream documents under /streams/{name} (property stream-url).");
  g_option_context_set_description(
      options,
      "Example:\n  cfrealtime-sfu --port 8080\n"
      "  CFREALTIME_API_URL=http://127.0.0.1:8080/v1 CFREALTIME_APP_ID=demo \\\n"
      "    gst-launch-1.0 -v videotestsrc is-live=true ! cfrealtimesink\n");
  g_option_context_add_main_entries(options, entries, nullptr);
  g_option_context_add_group(options, gst_init_get_option_group());
  g_autoptr(GError) error = nullptr;
  if (!g_option_context_parse(options, &argc, &argv, &error)) {
    std::fprintf(stderr, "cfrealtime-sfu: %s\n", error->message);
    return 2;
  }
  if (argc > 1) {
    std::fprintf(stderr, "cfrealtime-sfu: unknown argument %s; see --help\n", argv[1]);
    return 2;
  }
  if (port < 0 || port > 65535) {
    std::fprintf(stderr, "cfrealtime-sfu: --port is 0 to 65535\n");
    return 2;
  }
  settings.port = unsigned(port);
  if (address) settings.address = address;
  std::string id = app_id ? app_id : from_environment("CFREALTIME_APP_ID");
  if (!id.empty()) sfu.app_id = id;
  sfu.app_secret = app_secret ? app_secret : from_environment("CFREALTIME_APP_SECRET");
  settings.stream_token = from_environment("CFREALTIME_STREAM_TOKEN");
  if (turn_url) settings.turn_url = turn_url;
  settings.turn_secret = turn_secret ? turn_secret : from_environment("CFREALTIME_TURN_SECRET");
  settings.log = !quiet;

  raise_descriptor_limit();
  g_autoptr(GMainLoop) loop = g_main_loop_new(nullptr, FALSE);
  g_unix_signal_add(SIGINT, quit, loop);
  g_unix_signal_add(SIGTERM, quit, loop);
  auto server = cfr::sfu::SfuServer::start(g_main_context_default(), settings);
  if (!server) {
    std::fprintf(stderr, "cfrealtime-sfu: %s\n", server.error().message.c_str());
    return 1;
  }
  std::printf("listening on %s\n", (*server)->url().c_str());
  std::fflush(stdout);
  g_autoptr(GInetAddress) bound = g_inet_address_new_from_string(settings.address.c_str());
  if (!bound || !g_inet_address_get_is_loopback(bound))
    std::fprintf(stderr,
                 "WARNING: reachable from other machines, over plain HTTP. This is a development "
                 "tool without access control of its own beyond the app secret.\n");
  if (sfu.app_secret.empty())
    std::fprintf(stderr, "No app secret is set: any is accepted, or none.\n");
  g_main_loop_run(loop);
  (*server).reset();
  // What the transports still had to say.
  while (g_main_context_iteration(nullptr, FALSE)) {
  }
  return 0;
}
