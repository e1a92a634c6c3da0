// The wire types as JSON text and back. Strict: a member of the wrong type or a missing required
// one gives a `protocol` error that names the member; unknown members are ignored.
// Pure, any thread.
#pragma once

#include <string>
#include <string_view>

#include "util/result.h"
#include "wire/types.h"

namespace cfr::json {

std::string write(const NewSessionRequest& request);  // "" when there is no description
std::string write(const NewSessionReply& reply);
std::string write(const TracksRequest& request);
std::string write(const TracksReply& reply);
std::string write(const RenegotiateRequest& request);
std::string write(const RenegotiateReply& reply);
std::string write(const CloseRequest& request);
std::string write(const SessionState& state);
std::string write(const IceServersRequest& request);
std::string write(const std::vector<IceServer>& servers);
std::string write(const StreamDocument& document);
std::string write(const ApiError& error);

Result<NewSessionRequest> read_new_session_request(std::string_view text);
Result<NewSessionReply> read_new_session_reply(std::string_view text);
Result<TracksRequest> read_tracks_request(std::string_view text);
Result<TracksReply> read_tracks_reply(std::string_view text);
Result<RenegotiateRequest> read_renegotiate_request(std::string_view text);
Result<RenegotiateReply> read_renegotiate_reply(std::string_view text);
Result<CloseRequest> read_close_request(std::string_view text);
Result<SessionState> read_session_state(std::string_view text);
Result<IceServersRequest> read_ice_servers_request(std::string_view text);
Result<std::vector<IceServer>> read_ice_servers(std::string_view text);
Result<StreamDocument> read_stream_document(std::string_view text);
// The error pair of any reply; also the {"errors":[{"message":...}]} form. No error = empty code.
ApiError read_api_error(std::string_view text);

}  // namespace cfr::json
