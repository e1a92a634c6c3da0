#include "rtc/webrtc_call.h"

#include <gst/sdp/sdp.h>
#include <gst/webrtc/webrtc.h>

namespace cfr {

namespace {

struct Call {
  std::shared_ptr<Mailbox> mail;
  OnWebrtcReply on_reply;
};

void take_description(const GstStructure* s, const char* field, WebrtcReply& reply) {
  const GValue* value = gst_structure_get_value(s, field);
  if (!value || !G_VALUE_HOLDS(value, GST_TYPE_WEBRTC_SESSION_DESCRIPTION)) return;
  const auto* description =
      static_cast<const GstWebRTCSessionDescription*>(g_value_get_boxed(value));
  if (!description) return;
  g_autofree gchar* text = gst_sdp_message_as_text(description->sdp);
  if (text) reply.sdp = text;
}

// On webrtcbin's thread, with its lock possibly held.
void on_promise(GstPromise* promise, gpointer data) {
  auto* call = static_cast<Call*>(data);
  WebrtcReply reply;
  // an interrupted or expired promise has no reply
  if (gst_promise_wait(promise) != GST_PROMISE_RESULT_REPLIED) {
    reply.error = "webrtcbin did not answer";
  } else {
    reply.ok = true;
    const GstStructure* s = gst_promise_get_reply(promise);
    if (s && gst_structure_has_field(s, "error")) {
      reply.ok = false;
      GError* error = nullptr;
      gst_structure_get(s, "error", G_TYPE_ERROR, &error, nullptr);
      reply.error = error ? error->message : "unknown error";
      g_clear_error(&error);
    } else if (s) {
      take_description(s, "offer", reply);
      take_description(s, "answer", reply);
      if (reply.sdp.empty()) reply.structure.reset(gst_structure_copy(s), gst_structure_free);
    }
  }
  call->mail->post([on_reply = call->on_reply, reply = std::move(reply)] { on_reply(reply); });
}

// The promise is webrtcbin's for the time of the call; drop ours after emitting the signal.
GstPromise* make_promise(std::shared_ptr<Mailbox> mail, OnWebrtcReply on_reply) {
  return gst_promise_new_with_change_func(on_promise,
                                          new Call{std::move(mail), std::move(on_reply)},
                                          [](gpointer data) { delete static_cast<Call*>(data); });
}

}  // namespace

void webrtc_create(GstElement* webrtcbin, bool offer, std::shared_ptr<Mailbox> mail,
                   OnWebrtcReply on_reply) {
  GstPromise* promise = make_promise(std::move(mail), std::move(on_reply));
  g_signal_emit_by_name(webrtcbin, offer ? "create-offer" : "create-answer", nullptr, promise);
  gst_promise_unref(promise);
}

void webrtc_set(GstElement* webrtcbin, bool local, bool offer, const std::string& sdp,
                std::shared_ptr<Mailbox> mail, OnWebrtcReply on_reply) {
  GstSDPMessage* message = nullptr;
  if (gst_sdp_message_new_from_text(sdp.c_str(), &message) != GST_SDP_OK) {
    if (message) gst_sdp_message_free(message);
    mail->post([on_reply = std::move(on_reply)] {
      WebrtcReply reply;
      reply.error = "the description cannot be parsed";
      on_reply(reply);
    });
    return;
  }
  GstWebRTCSessionDescription* description = gst_webrtc_session_description_new(
      offer ? GST_WEBRTC_SDP_TYPE_OFFER : GST_WEBRTC_SDP_TYPE_ANSWER, message);
  GstPromise* promise = make_promise(std::move(mail), std::move(on_reply));
  g_signal_emit_by_name(webrtcbin, local ? "set-local-description" : "set-remote-description",
                        description, promise);
  gst_promise_unref(promise);
  gst_webrtc_session_description_free(description);
}

void webrtc_stats(GstElement* webrtcbin, std::shared_ptr<Mailbox> mail, OnWebrtcReply on_reply) {
  GstPromise* promise = make_promise(std::move(mail), std::move(on_reply));
  g_signal_emit_by_name(webrtcbin, "get-stats", nullptr, promise);
  gst_promise_unref(promise);
}

}  // namespace cfr
