// A front end written from the connection guide alone. The first part is the guide's code as it is printed there;
// what the guide leaves to the reader (what to do with a message, how it looks) is the second part.

import { useEffect, useRef, useState } from 'react';
import { createRoot } from 'react-dom/client';

const connectToChatWebSocket = (conversationId, jwtToken) => {
    const wsUrl = `ws://localhost:8000/ws/chat/${conversationId}/?token=${jwtToken}`;
    const websocket = new WebSocket(wsUrl);
    
    websocket.onopen = () => {
        console.log('Chat WebSocket connected');
    };
    
    websocket.onmessage = (event) => {
        const data = JSON.parse(event.data);
        handleChatMessage(data);
    };
    
    websocket.onerror = (error) => {
        console.error('Chat WebSocket error:', error);
    };
    
    websocket.onclose = (event) => {
        console.log('Chat WebSocket closed:', event.code, event.reason);
        // Implement reconnection logic here
    };
    
    return websocket;
};

const connectToNotificationsWebSocket = (userId, jwtToken) => {
    const wsUrl = `ws://localhost:8000/ws/notifications/${userId}/?token=${jwtToken}`;
    const websocket = new WebSocket(wsUrl);
    
    websocket.onopen = () => {
        console.log('Notifications WebSocket connected');
    };
    
    websocket.onmessage = (event) => {
        const data = JSON.parse(event.data);
        handleNotification(data);
    };
    
    websocket.onerror = (error) => {
        console.error('Notifications WebSocket error:', error);
    };
    
    websocket.onclose = (event) => {
        console.log('Notifications WebSocket closed:', event.code, event.reason);
        // Implement reconnection logic here
    };
    
    return websocket;
};

const sendMessage = (websocket, messageData) => {
    const payload = {
        type: 'chat_message',
        message: messageData.message,
        message_type: messageData.type || 'text',
        // Add other message properties as needed
    };
    
    websocket.send(JSON.stringify(payload));
};

const connectWithRetry = (wsUrl, maxRetries = 5, retryDelay = 1000) => {
    let retryCount = 0;
    
    const connect = () => {
        const websocket = new WebSocket(wsUrl);
        
        websocket.onopen = () => {
            console.log('WebSocket connected');
            retryCount = 0; // Reset retry count on successful connection
        };
        
        websocket.onclose = (event) => {
            console.log('WebSocket closed:', event.code, event.reason);
            
            if (retryCount < maxRetries) {
                retryCount++;
                console.log(`Retrying connection... Attempt ${retryCount}/${maxRetries}`);
                setTimeout(connect, retryDelay * retryCount); // Exponential backoff
            } else {
                console.error('Max reconnection attempts reached');
            }
        };
        
        websocket.onerror = (error) => {
            console.error('WebSocket error:', error);
        };
        
        return websocket;
    };
    
    return connect();
};

export const useWebSocket = (url, onMessage, shouldConnect = true) => {
    const [connectionStatus, setConnectionStatus] = useState('Disconnected');
    const [lastMessage, setLastMessage] = useState(null);
    const websocketRef = useRef(null);
    const reconnectTimeoutRef = useRef(null);
    
    const connect = () => {
        if (!shouldConnect || !url) return;
        
        try {
            websocketRef.current = new WebSocket(url);
            
            websocketRef.current.onopen = () => {
                setConnectionStatus('Connected');
                console.log('WebSocket connected');
            };
            
            websocketRef.current.onmessage = (event) => {
                const data = JSON.parse(event.data);
                setLastMessage(data);
                onMessage?.(data);
            };
            
            websocketRef.current.onclose = (event) => {
                setConnectionStatus('Disconnected');
                console.log('WebSocket disconnected:', event.code, event.reason);
                
                // Attempt to reconnect after 3 seconds
                if (shouldConnect) {
                    reconnectTimeoutRef.current = setTimeout(connect, 3000);
                }
            };
            
            websocketRef.current.onerror = (error) => {
                setConnectionStatus('Error');
                console.error('WebSocket error:', error);
            };
        } catch (error) {
            console.error('Failed to create WebSocket connection:', error);
            setConnectionStatus('Error');
        }
    };
    
    const disconnect = () => {
        if (reconnectTimeoutRef.current) {
            clearTimeout(reconnectTimeoutRef.current);
        }
        
        if (websocketRef.current) {
            websocketRef.current.close();
            websocketRef.current = null;
        }
        
        setConnectionStatus('Disconnected');
    };
    
    const sendMessage = (message) => {
        if (websocketRef.current?.readyState === WebSocket.OPEN) {
            websocketRef.current.send(JSON.stringify(message));
        } else {
            console.warn('WebSocket is not connected');
        }
    };
    
    useEffect(() => {
        if (shouldConnect) {
            connect();
        } else {
            disconnect();
        }
        
        return () => {
            disconnect();
        };
    }, [url, shouldConnect]);
    
    return {
        connectionStatus,
        lastMessage,
        sendMessage,
        connect,
        disconnect
    };
};

// The reader's part. What arrives is kept for the tests to look at.

window.chatMessages = [];
window.notifications = [];
window.handleChatMessage = (data) => window.chatMessages.push(data);
window.handleNotification = (data) => window.notifications.push(data);
Object.assign(window, { connectToChatWebSocket, connectToNotificationsWebSocket, sendMessage, connectWithRetry });

const ChatComponent = ({ conversationId, jwtToken }) => {
    const chatWsUrl = `ws://localhost:8000/ws/chat/${conversationId}/?token=${jwtToken}`;
    const [messages, setMessages] = useState([]);
    const [text, setText] = useState('');

    const { connectionStatus, sendMessage } = useWebSocket(
        chatWsUrl,
        (data) => {
            if (data.type === 'chat_message') setMessages((earlier) => [...earlier, data.message]);
        },
        !!conversationId && !!jwtToken
    );

    const handleSendMessage = (messageText) => {
        sendMessage({
            type: 'chat_message',
            message: messageText,
            message_type: 'text'
        });
    };

    return (
        <div>
            <div>Connection Status: {connectionStatus}</div>
            <ul>
                {messages.map((message) => (
                    <li key={message.id}>
                        {message.sender.first_name} {message.sender.last_name}: {message.content}
                    </li>
                ))}
            </ul>
            <input value={text} onChange={(event) => setText(event.target.value)} />
            <button onClick={() => handleSendMessage(text)}>Send</button>
        </div>
    );
};

if (window.settings.conversationId) {
    createRoot(document.getElementById('root')).render(<ChatComponent {...window.settings} />);
}
